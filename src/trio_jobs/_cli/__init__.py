"""Floor 9: the command line `trio-jobs`.

main       arguments, errors in one line, exit codes
asking     submit, status, list, result, cancel, retry, resolve, pause, resume, stats
watching   watch
serving    serve
signals    once drains, twice cancels, three times leaves at once
tokenfile  where the token is kept between the two sides
logs       lines for people, or one JSON object each
"""
