"""GPUs of this machine and this process, as torch reports them."""

import gc

import torch


def count_gpus() -> int:
    """Return the number of GPUs that torch can use here, without allocating on any."""
    return torch.cuda.device_count()


def device_name(device: str) -> str:
    """Return the name of the device on which a model with this agent.device is trained in this process."""
    if device_type(device) == "cpu":
        return "cpu"
    return torch.cuda.get_device_name(device if ":" in device else None)


def device_type(device: str) -> str:
    """Return the kind of device that this agent.device comes to in this process: cpu or cuda."""
    return "cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda"


def limit_memory(fraction: float) -> None:
    """Limit this process to a fraction of its GPU's memory; torch raises OutOfMemoryError beyond it."""
    torch.cuda.set_per_process_memory_fraction(fraction)


def free_memory() -> None:
    """Return unused GPU memory to the other processes on the device."""
    gc.collect()
    torch.cuda.empty_cache()
