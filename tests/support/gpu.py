import pytest
import torch

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here that PyTorch can use")
