"""optuna-dashboard in a real browser, on a study that nasopt wrote."""

import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nasopt.records import SeedResult, Verification
from nasopt.search.dashboard import annotate_choice
from nasopt.search.driver import Limits, SearchDriver
from nasopt.search.storage import storage_url
from nasopt.search.study import open_study, working_copy


@pytest.fixture
def dashboard(plan, table, tmp_path, free_port):
    """The address of a dashboard on a study of 12 trials, and the chosen record."""
    database = tmp_path / "study.db"
    study = open_study(plan, database, create=True)
    with working_copy(study, database) as copy, ThreadPoolExecutor(1) as executor:
        driver = SearchDriver(copy, plan, table, executor, 1)
        driver.run(Limits(trials=12), threading.Event())
    chosen = driver.progress.front[-1]
    seeds = (SeedResult(1, 11, 0.77, 0.78, 0.79, dead=False),)
    verification = Verification(chosen.number, chosen.candidate, chosen.n_params, 0.75, seeds)
    annotate_choice(study, verification, ["It is the smallest."])
    program = Path(sys.executable).with_name("optuna-dashboard")
    command = [program, storage_url(database), "--port", str(free_port), "--server", "wsgiref"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        address = f"http://127.0.0.1:{free_port}"
        for _ in range(150):
            try:
                urllib.request.urlopen(address, timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield address, study, chosen
        server.terminate()


@pytest.mark.browser
def test_the_dashboard_shows_genomes_feasibility_and_the_choice(dashboard, page):
    address, study, chosen = dashboard
    page.goto(f"{address}/dashboard/studies/{study._study_id}/trials?numbers={chosen.number}")
    page.get_by_text(str(chosen.candidate.genome)).first.wait_for(timeout=30_000)
    page.get_by_text("It is the smallest.").first.wait_for(timeout=30_000)
    page.goto(f"{address}/dashboard/studies/{study._study_id}/note")
    page.get_by_text("It is the smallest.").first.wait_for(timeout=30_000)
