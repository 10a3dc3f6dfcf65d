"""Commands about the installation: what works on this machine, and completion in a shell."""
