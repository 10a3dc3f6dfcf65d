#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=4 --gpus-per-task=1 --cpus-per-task=8 --time=12:00:00
# One process for each GPU of two machines. The folders must be seen by all of them.
# Since Slurm 22.05, srun does not take the number of cores from the line above.
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit python -m bsm_core.run --device gpu \
    --job_type inference --id-field id --model-dir model --data-dir data --output-dir scores
