#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=4 --gpus-per-task=1 --cpus-per-task=8
# One process for each GPU of two machines. The folders must be seen by all of them.
srun --kill-on-bad-exit python -m bsm_core.run --job_type inference --id-field id \
    --model-dir model --data-dir data --output-dir scores
