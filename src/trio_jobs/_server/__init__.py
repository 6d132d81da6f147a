"""Floor 8: the queue for everyone: WebSocket, health, metrics, all on one port.

limits      every bound of the server, with its reason
tokens      who may do what
head        the HTTP head of a connection: read strictly, so that no library meets a stranger's first bytes
stream      the stream between socket and trio-websocket: counts what comes, joins what goes
subscriber  one subscription: from cursor to frames
connection  one WebSocket client
answers     what each method does
http        /healthz, /metrics, /asyncapi.json
metrics     the numbers for Prometheus
listening   sockets and the accept loop
serve       all of it together
"""
