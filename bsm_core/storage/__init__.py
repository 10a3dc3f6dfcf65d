"""Files by path or URL: on the disks of this machine and, with the extra ``[s3]``, in object stores."""
