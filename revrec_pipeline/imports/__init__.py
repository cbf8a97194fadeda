"""Files that people bring: read safely, landed in the lake, and delivered like any other source.

`refusals` says why a file is refused, `names` matches sheets and columns with the template,
`archives` looks at a file before anything of it is read, `reading` turns its sheets into cells,
`landing` finds the documents in them, `run` does the whole. What a cell means is in `mapping.file`.
"""
