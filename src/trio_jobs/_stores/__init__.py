"""Stores: where events are kept.

`memory` and `sqlite` are siblings and do not import each other. `group_commit`, `durable_log`, `writer_thread` and
`durable_store` are shared: they are what a store on any database is made of.
"""
