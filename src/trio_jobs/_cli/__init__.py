"""The command line `trio-jobs`.

main        runs a command, reports errors in one line, returns the exit code
exit_codes  the exit codes, and which error has which
arguments   the commands, their arguments and their help
error_text  errors as text
output      standard output and standard error, whoever reads them
commands    the commands that are one request: submit, show, list, result, cancel, retry, resolve, pause, resume, drain,
            undrain, status
watch       watch
serve       serve
journal     journal check, journal backup
signals     the first one stops, the second one cancels, the third one exits at once
token_file  where server and clients keep the token
json_lines  JSON that is safe for a terminal
logs        log records as text, or as JSON lines
"""
