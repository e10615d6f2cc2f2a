"""Slurm, as a place that trains: submitted through submitit, one task for each process.

    script       what Slurm is asked for, and how
    place        what the queue wants of a place: submit, cancel, describe
    task         what a job does
    watch        what becomes of jobs that can't say so themselves
    says         Slurm's own commands

A run's state/job.json holds the number of its job.
"""
