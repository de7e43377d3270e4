"""Long rows: their blocks, and where they stand while threads share a row."""

from fastlogits.kernels import machine
from fastlogits.kernels.records import Blocks
from fastlogits.kernels.sizes import BLOCK, BLOCK_FIELDS, PARKED


def blocks_of(classes):
    """How many blocks a row has."""
    return (classes + BLOCK - 1) // BLOCK


def row_scale(task, row):
    """What the logits of a row are multiplied by."""
    return task.scale if task.scale > 0.0 else task.scales[row]


def padded(classes):
    """The distance of rows in scratch memory: whole vectors."""
    return (classes + 15) // 16 * 16


def row_fields(classes):
    """How many numbers there are of a row that threads share."""
    return BLOCK_FIELDS * blocks_of(classes) + PARKED


def row_memory(task, work, row):
    """The numbers of a row: the thread's own, or those that threads share."""
    if task.sharing:
        return machine.stretch(task.shared, (row - task.first) * row_fields(task.classes))
    return work.blocks


def row_blocks(task, work, row):
    memory = row_memory(task, work, row)
    n = blocks_of(task.classes)
    return Blocks(
        memory, machine.stretch(memory, n), machine.stretch(memory, 2 * n), machine.stretch(memory, 3 * n),
        machine.stretch(memory, 4 * n),
    )  # fmt: skip


def row_kept(task, work, row):
    """Where the exponentials of a long row stay in scratch memory."""
    if task.sharing:
        return machine.stretch_real(task.kept, (row - task.first) * blocks_of(task.classes) * BLOCK)
    return work.row
