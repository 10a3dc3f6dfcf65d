"""Services of a running process: log, profile, memory, child processes, library versions, validation errors."""
