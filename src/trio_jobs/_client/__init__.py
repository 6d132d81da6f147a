"""The client: the queue from another process.

connect       `trio_jobs.connect`: the lifetime of a client
client        `Client`: the methods of the queue
subscription  `Subscription`: what a user reads
updates       `Gap`, `Snapshot`: what it yields beside events and progress
receiver      receives the notifications of a subscription over any number of connections
router        routes notifications to receivers
reconnect     keeps a session with the server, and replaces a lost one
session       one WebSocket connection: requests, answers, notifications
errors        error answers as the exceptions of the queue
"""
