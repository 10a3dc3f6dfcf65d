"""The commands of ``bsm``, one file each."""
