"""Services of a running process: log lines, profile, memory, child processes, library versions."""
