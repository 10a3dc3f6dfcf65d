"""Terminal of the commands: plan, progress bar, summary and errors. rich is imported when it is needed."""
