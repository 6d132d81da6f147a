"""Programs that write a file of the repository from the code: docs/states.md, src/trio_jobs/asyncapi.json."""
