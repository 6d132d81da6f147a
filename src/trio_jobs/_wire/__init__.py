"""The protocol `trio-jobs.v1` without IO: its messages, their encoding and their description.

codes           numbers and names that both sides know
schemas         the private Structs of jobs, attempts, events and errors on the wire
methods         the methods and notifications, with parameters, results and scopes
costs           the cost of a request, for rate limits
conversion      public values to Structs of the wire, and back
jsonrpc         JSON-RPC 2.0: text to messages and back
pages           pages of jobs, limited by their bytes
event_encoding  an event to JSON, once for all subscribers
frames          WebSocket frames: encoded for joined writes, counted when they are received

tools/asyncapi.py generates the AsyncAPI document from the same types. Nothing here knows a socket, a clock or Trio.
"""
