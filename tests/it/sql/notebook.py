"""Executes a notebook, in the environment of this program.

    notebook.py NOTEBOOK
        prints the notebook with its outputs, as JSON
"""

import sys

import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
print(nbformat.writes(notebook))
