"""Reports on results, and estimates and checks before a run.

`rows` (columns, types, remarks) -> `tables` (results, costs and the paper's numbers, a row a variant) -> `fastest`,
`beside_paper`, `full_size` (tables for people), `claims` (verdicts) -> `summary`, all written by `documents`. `plots`
and `pictures` draw. `compare`, `leaderboard` and `export` compare and publish results. `partial` is for a failed run.
`forecast`, `doctor`, `copies` and `audit` look at the run, the machine, the videos and the files.
"""
