"""What the README shows runs, and says what it says."""

import pathlib
import re

import numpy as np

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_readmes_flow_and_question_run_and_are_right(capsys):
    scope = {}
    for block in BLOCKS:
        exec(block, scope)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "exact" in line]
    assert len(lines) == 4
    for _, _, measured, _, exact in lines:
        # 8,192 numbers leave 1.6 % of Monte-Carlo error in a variance; four of them are allowed.
        assert abs(float(measured) / float(exact) - 1) < 0.064
    r = np.array([0.3, 1.0, 2.5])
    softened = (1 + r) * np.log((1 + r) / (2 * r)) + r - 1
    np.testing.assert_allclose(scope["f"](r), softened, rtol=2e-5, atol=1e-7)
