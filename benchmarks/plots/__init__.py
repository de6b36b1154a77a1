"""Pictures of results: ``python -m benchmarks.plots RESULT.json... --into FOLDER``. Needs matplotlib."""
