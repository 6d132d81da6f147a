"""Floor 8: the queue from another process.

session  one WebSocket connection: requests out, answers and notifications in
link     keeps a session, and makes a new one when it is lost
subscription  a stream of events that outlives any of them
errors   what the server refuses, as the exceptions that the queue itself raises
client   what users call
"""
