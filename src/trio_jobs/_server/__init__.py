"""The server: WebSocket clients, health and metrics on one port.

limits        every limit of the server, with its reason
tokens        tokens and their scopes
request       the HTTP head of a connection, parsed strictly before any library gets its bytes
stream        the stream between the socket and trio-websocket: counts what is received, joins what is sent
event_bodies  the cache of encoded events
subscriber    one subscription: from a cursor to frames
multicast     subscriptions that get the same bytes
connection    one WebSocket client
methods       the methods of the protocol
places        which connections are open, and which are closed so that others can connect
http          responses in HTTP; /healthz, /metrics, /asyncapi.json
http_body     the body of an HTTP request, within its limits
http_server   plain HTTP: the connections, and which part answers which path
api           the HTTP API: from a request to a method, and from its result to a response
http_jobs     a job as a response
cors          which web pages may use the API
sse           one stream of server-sent events
accounts      what each token has taken from its limits
metrics       the metrics for Prometheus
listener      listening sockets and the accept loop
server        all of it together
"""
