import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Matrices this small are faster on one thread, and no result may depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
