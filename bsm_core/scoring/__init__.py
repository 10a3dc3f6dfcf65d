"""A scoring job: settings, engines, output, run record, and the checks before the first row."""
