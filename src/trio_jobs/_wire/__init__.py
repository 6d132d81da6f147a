"""Floor 5: the protocol `trio-jobs.v1` without IO: what is said, how it is written and read, and its description.

    codes      numbers and names that both sides know
    values     a job, an event, a page, as they stand on the wire
    methods    what can be asked, with parameters, results and the scope it takes
    messages   JSON-RPC 2.0: text to message and back
    bodies     an event to JSON, once for all subscribers
    frames     WebSocket frames: made for joined writes, counted when they come in

tools/asyncapi.py generates the AsyncAPI document from the same types. Nothing here knows a socket, a clock or Trio.
"""
