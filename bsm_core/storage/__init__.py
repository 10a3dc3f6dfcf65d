"""Files and objects by URL: on the local disk and, with the extra ``[s3]``, in object stores."""
