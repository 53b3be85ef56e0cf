#!/usr/bin/env bash
# scikit-learn: the same C is a penalty twice as strong for two classes as for three, where the third has no weight.
#
# Guess:     LogisticRegression is a softmax, so a third class that practically never occurs leaves the odds of the
#            other two as they are.
# Behaviour: with two classes it fits one vector, the difference of the two, and penalises that: 1/2 |w|^2. With more it
#            penalises a vector for each class; two of them share the difference w as w/2 and -w/2, and cost 1/4 |w|^2.
#            So a single item of a third class, of weight 1e-9, gives the two classes the probabilities of twice the C.
#            Who moves a C from a binary search to a task with classes, or compares heads by C, compares unlike penalties.
# Version:   scikit-learn 1.9.1, numpy 2.4.6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6
seen=$("$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from sklearn.linear_model import LogisticRegression

rng = np.random.default_rng(0)
which = np.arange(60) % 2
x = rng.normal(size=(60, 5)) + which[:, None]


def odds(strength: float, third: bool) -> np.ndarray:
    """Log odds of the first two classes."""
    rows, classes, weights = x, which, np.ones(60)
    if third:
        rows, classes, weights = np.vstack([x, x[:1]]), np.append(which, 2), np.append(weights, 1e-9)
    model = LogisticRegression(C=strength, tol=1e-12, max_iter=100_000).fit(rows, classes, sample_weight=weights)
    said = model.predict_log_proba(x)
    return said[:, 1] - said[:, 0]


def apart(a: np.ndarray, b: np.ndarray) -> str:
    return "alike" if np.abs(a - b).max() < 1e-3 else "unlike"


print("C = 0.1, two classes, and C = 0.1 with a third:", apart(odds(0.1, False), odds(0.1, True)))
print("C = 0.2, two classes, and C = 0.1 with a third:", apart(odds(0.2, False), odds(0.1, True)))
PYTHON
)
echo "$seen"
expected="C = 0.1, two classes, and C = 0.1 with a third: unlike
C = 0.2, two classes, and C = 0.1 with a third: alike"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
