"""Options as people type them: names of other tools, values as text, and those of the launcher."""
