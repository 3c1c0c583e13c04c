import pytest
import torch
from torch import nn

from network.self_training.teacher import EMATeacher


@pytest.fixture
def student():
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    return nn.ModuleDict({"trunk": trunk, "decoder": nn.Conv2d(4, 2, 1)}).double()


def wander(student):
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += torch.randn_like(parameter)


def segment(parts, images):
    return parts["decoder"](parts["trunk"](images))


@pytest.mark.parametrize("alpha", [0.9, 0.99])
def test_fourteen_steps(student, alpha):
    teacher = EMATeacher(student)
    wander(student)
    teacher.reset(student)
    expected = [p.detach().clone() for p in student.parameters()]
    for step in range(14):
        wander(student)
        teacher.update(student, step, alpha)
        decay = min(1 - 1 / (step + 2), alpha)
        for mean, own in zip(expected, student.parameters(), strict=True):
            for i in range(mean.numel()):
                value = decay * mean.view(-1)[i] + (1 - decay) * own.detach().view(-1)[i]
                mean.view(-1)[i] = value
    for own, mean in zip(teacher.parameters(), expected, strict=True):
        torch.testing.assert_close(own, nn.Parameter(mean), rtol=1e-13, atol=1e-13)
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())


def test_no_memory_gives_the_student(student):
    teacher = EMATeacher(student)
    wander(student)
    teacher.update(student, 7, alpha=0.0)
    images = torch.randn(2, 3, 8, 8).double()
    student["trunk"][2].eval()  # no dropout
    assert torch.equal(segment(teacher.parts, images), segment(student, images))


def test_only_batch_norms_train(student):
    teacher = EMATeacher(student).train()
    trunk = teacher.parts["trunk"]
    assert [m.training for m in trunk] == [False, True, False]
    # Batch statistics decide; running ones are collected, and left alone by updates.
    images = torch.randn(2, 3, 8, 8).double()
    before = segment(teacher.parts, images)
    running = trunk[1].running_mean.clone()
    assert running.abs().sum() > 0
    trunk[1].running_mean += 100
    assert torch.equal(segment(teacher.parts, images), before)
    running = trunk[1].running_mean.clone()
    teacher.update(student, 3, 0.9)
    assert torch.equal(trunk[1].running_mean, running)
    teacher.reset(student)
    assert torch.equal(trunk[1].running_mean, student["trunk"][1].running_mean)


def test_some_parts_and_shared_ones(student):
    shared = nn.ModuleDict({"a": student["decoder"], "b": nn.Sequential(student["decoder"])})
    teacher = EMATeacher(shared)
    assert teacher.parts["a"] is teacher.parts["b"][0]
    part = EMATeacher({"decoder": student["decoder"]})
    wander(student)
    part.update(student, 0, 0.99)
    assert part.parts.keys() == {"decoder"}
    # After step 0: the mean of both students.
    torch.testing.assert_close(
        part.parts["decoder"].weight.data, (shared["a"].weight + teacher.parts["a"].weight).data / 2
    )
