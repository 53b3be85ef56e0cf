#!/usr/bin/env bash
# PyTorch: to make any optimizer loads the compiler (torch._dynamo), some hundred modules, also if nothing is compiled.
#
# Guess:     torch.optim is loaded with `import torch`, and torch.optim.SGD([w]) is an object with a few fields: what is
#            not compiled needs no compiler.
# Behaviour: the constructor of every optimizer looks up a decorator that switches compiling off, and that imports
#            torch._dynamo: more than 500 modules, sympy with the first step at the latest. In a program that fits one
#            small linear model, this takes longer than the fit, and nearly as long as `import torch` itself.
#            So: a few lines of one's own, or SciPy, for a fit in a short-lived process.
# Version:   torch 2.13.0 (CPU)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - >"$folder/seen" <<'PYTHON'
import sys

import torch

before = set(sys.modules)


def loaded(name):
    return "is loaded" if name in sys.modules else "is not loaded"


print("after import torch: torch.optim", loaded("torch.optim"))
print("after import torch: torch._dynamo", loaded("torch._dynamo"))
weights = torch.zeros(3, requires_grad=True)
optimizer = torch.optim.SGD([weights], lr=0.1)
print("after SGD([weights]): torch._dynamo", loaded("torch._dynamo"))
print("more than 500 modules more:", len(set(sys.modules) - before) > 500)
((weights - 1) ** 2).sum().backward()
optimizer.step()
print("after one step: sympy", loaded("sympy"))
PYTHON
seen=$(cat "$folder/seen")
echo "$seen"
expected="after import torch: torch.optim is loaded
after import torch: torch._dynamo is not loaded
after SGD([weights]): torch._dynamo is loaded
more than 500 modules more: True
after one step: sympy is loaded"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
