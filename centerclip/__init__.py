"""CenterCLIP, reproduced: token clustering for efficient text-video retrieval (SIGIR 2022)."""
