import pytest

from tests.workflow.conftest import Project


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The smoke track, run once for all tests of a session."""
    project = Project(tmp_path_factory.mktemp("smoke"))
    project.snakemake()
    return project
