"""The client: the queue from another process.

connect         `trio_jobs.connect`: the lifetime of a client
client          `Client`: the methods of the queue
submit_request  the request of a submit
subscription    `Subscription`: what a user reads
updates         `Gap`, `Snapshot`: what it yields beside events and progress
receiver        receives the notifications of a subscription over any number of connections
router          routes notifications to receivers
reconnect       keeps a session with the server, and replaces a lost one
backoff         the waits before something is tried again
handshake       the way to a WebSocket, and answers to the handshake in words that help
session         one WebSocket connection: requests, answers, notifications
outbox          the requests that wait to be sent, and their order
pacer           when a request may be sent, so that the server does not refuse it
errors          error answers as the exceptions of the queue
"""
