"""What torch knows about the GPUs of this machine and of this process."""

import gc

import torch


def count_gpus() -> int:
    """Return how many GPUs torch can use here, without taking hold of any."""
    return torch.cuda.device_count()


def device_name(device: str) -> str:
    """Return what a model with this agent.device is trained on in this process, by the chip's own name."""
    if device == "cpu" or not torch.cuda.is_available():
        return "cpu"
    return torch.cuda.get_device_name(device if ":" in device else None)


def limit_memory(fraction: float) -> None:
    """Let this process use a fraction of its GPU's memory; beyond it torch raises OutOfMemoryError."""
    torch.cuda.set_per_process_memory_fraction(fraction)


def free_memory() -> None:
    """Give the GPU memory that no tensor needs back to the other processes on the device."""
    gc.collect()
    torch.cuda.empty_cache()
