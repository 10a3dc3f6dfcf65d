"""A DAG of Airflow that scores the data of each day, with the provider for Amazon.

``processing-job.json`` lies beside this file. ``deferrable`` needs a triggerer of Airflow.
"""

import json
from pathlib import Path

import pendulum
from airflow import DAG
from airflow.providers.amazon.aws.operators.sagemaker import SageMakerProcessingOperator

JOB = Path(__file__).with_name("processing-job.json").read_text()

with DAG("bsm", schedule="@daily", start_date=pendulum.datetime(2026, 1, 31, tz="UTC"), catchup=False):
    SageMakerProcessingOperator(
        task_id="score",
        config=json.loads(JOB.replace("2026-01-31", "{{ ds }}")),  # the paths of the day
        action_if_job_exists="timestamp",  # a job's name can be used once
        deferrable=True,
        retries=2,
    )
