"""Programs that write a file of the repository from the code: docs/states.md, docs/assets, src/trio_jobs/asyncapi.json.

`site_hooks` is a part of the documentation build (mkdocs.yml)."""
