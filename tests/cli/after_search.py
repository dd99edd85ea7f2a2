"""Commands that train a subnet of the toy."""

import torch

SHORT = "--epochs 2 --batch-size 8 --device cpu"


def retrain(toy, output, more=""):
    command = f"retrain --space {toy}/space.yaml --architecture middle --data {toy}/images"
    return f"{command} --output {output} {SHORT} {more}".split()


def finetune(toy, output, more="", data="images"):
    command = f"finetune --checkpoint {toy}/run/supernet.safetensors --architecture middle"
    return f"{command} --data {toy}/{data} --output {output} {SHORT} {more}".split()


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
