"""NNI's manager, the server behind an experiment, asked over its web interface."""

from __future__ import annotations

import os
import re
from typing import Any

import requests

TIMEOUT = 20


class Manager:
    """The manager of a running experiment.

    Args:
        address: address of the web server, as in 'http://localhost:8080'.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    @classmethod
    def of_this_tuner(cls) -> Manager | None:
        """The manager that has started this process as its tuner; None elsewhere."""
        # ws://localhost:8080/tuner, or with a prefix: ws://localhost:8080/prefix/tuner
        channel = os.environ.get("NNI_TUNER_COMMAND_CHANNEL", "")
        match = re.fullmatch(r"ws://(.+)/tuner", channel)
        return None if match is None else cls(f"http://{match[1]}")

    def get(self, path: str) -> Any:
        """The answer to a question, read as JSON.

        Raises:
            OSError: the manager does not answer.
        """
        answer = requests.get(f"{self.address}/api/v1/nni{path}", timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.json()

    def text(self, path: str) -> str:
        """As `get`, as text."""
        answer = requests.get(f"{self.address}/api/v1/nni{path}", timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.text

    def profile(self) -> dict[str, Any]:
        """The experiment: its configuration under 'params', its name, its folder."""
        return self.get("/experiment")

    def finish(self) -> None:
        """Let the experiment end when its trials have: NNI ends one only at its largest number of trials."""
        profile = self.profile()
        profile["params"]["maxTrialNumber"] = max(1, len(self.get("/trial-jobs")))
        address = f"{self.address}/api/v1/nni/experiment?update_type=MAX_TRIAL_NUM"
        requests.put(address, json=profile, timeout=TIMEOUT).raise_for_status()

    def trial_error(self) -> str:
        """The last line that the first failed trial wrote to its error stream; empty if there is none."""
        try:
            failed = [trial for trial in self.get("/trial-jobs") if trial["status"] == "FAILED"]
            if not failed:
                return ""
            first = min(failed, key=lambda trial: trial.get("sequenceId", 0))
            text = self.text(f"/trial-file/{first['trialJobId']}/stderr")
        except (OSError, ValueError, KeyError) as error:
            return f"it cannot be read ({error})"
        lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
        return lines[-1] if lines else ""
