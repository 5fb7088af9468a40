"""The files that infer.py writes, and the journal from which an interrupted run resumes."""
