"""reports: judgement. Reads a run directory and never touches a server.

``from reports.frames import load`` gives pandas frames for notebooks.
"""
