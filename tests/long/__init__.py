"""Long runs against real processes: kill loops, agents, suites and figures; each is `python -m tests.long.NAME`."""
