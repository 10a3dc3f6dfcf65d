"""A DAG of Airflow that scores a table every day, with the provider for Amazon."""

import json
from pathlib import Path

import pendulum
from airflow import DAG
from airflow.providers.amazon.aws.operators.sagemaker import SageMakerProcessingOperator

with DAG("bsm", schedule="@daily", start_date=pendulum.datetime(2026, 1, 31, tz="UTC"), catchup=False):
    SageMakerProcessingOperator(
        task_id="score",
        config=json.loads(Path(__file__).with_name("processing-job.json").read_text()),
        action_if_job_exists="timestamp",  # a job's name can be used once
        deferrable=True,
    )
