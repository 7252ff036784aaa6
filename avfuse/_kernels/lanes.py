"""Numbers that are worked on at once, eight words or doubles, pairs or fours of floats, in vector registers.

LLVM makes of them whatever the machine has: one AVX-512 register, two of AVX2, four of SSE2 or NEON; unlike loops that
must first be found to vectorise, they always are. Without the JIT they are arrays of eight, on which the same operators
work.
"""

# numba compiles the functions that overloads return, so these cannot be the intrinsics themselves; and mypy counts the
# first argument of intrinsics, which numba gives.
# ruff: noqa: PLW0108
# mypy: disable-error-code="call-arg, var-annotated, import-untyped"

from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

WORDS = 8
LANES = 64 * WORDS

_WORDS = ir.VectorType(ir.IntType(64), WORDS)
_DOUBLES = ir.VectorType(ir.DoubleType(), 8)


class _Lanes(types.Type):
    pass


class _Numbers(types.Type):
    pass


LANES_TYPE, NUMBERS_TYPE = _Lanes(name="Lanes"), _Numbers(name="Numbers")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _WORDS)


@register_model(_Numbers)
class _NumbersModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _DOUBLES)


def load(words, at):
    """words[at : at + 8] of a flat array of uint64, as 512 lanes."""
    return words[at : at + WORDS].copy()


def store(values, at, eight):
    """values[at : at + 8] = eight, words or doubles"""
    values[at : at + WORDS] = eight


def spread(bit):
    """0 or 1 in every lane."""
    return np.full(WORDS, 0xFFFFFFFFFFFFFFFF if bit else 0, np.uint64)


def some(lanes):
    """Whether any bit is set."""
    return bool(lanes.any())


def numbers(values, at):
    """values[at : at + 8] of a flat array of float32 or float64, as float64."""
    return values[at : at + 8].astype(np.float64)


def total(eight):
    """Sum of eight numbers, by pairs."""
    a, b, c, d, e, f, g, h = eight
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


def alike(value):
    """A number in all eight places."""
    return np.full(8, value)


def smaller(a, b):
    """Of each place the smaller number."""
    return np.minimum(a, b)


def larger(a, b):
    """Of each place the larger number."""
    return np.maximum(a, b)


def any_below(a, b):
    """Whether a number of `a` is less than that of `b` in its place."""
    return bool((a < b).any())


def labelled(eight, low, label):
    """Eight numbers whose bits of `low`, the last ones, are those of `label` instead: they order as before, ties by
    label. Numbers are not negative; low and label are int64."""
    return ((np.ascontiguousarray(eight).view(np.int64) & ~np.int64(low)) | np.int64(label)).view(np.float64)


def highest(eight):
    """The largest of eight numbers."""
    return eight.max()


def lowest(word):
    """Place of the lowest bit that is set, of a word that has one."""
    return (int(word) & -int(word)).bit_length() - 1


def ones(word):
    """How many bits of a word are set."""
    return int(word).bit_count()


def bilinear(image, at, below, across, down):
    """Between image[at], image[at + 1] and image[below], image[below + 1] of a flat float32 array; float32 shares."""
    left, right = image[at : at + 2] + down * (image[below : below + 2] - image[at : at + 2])
    return left + across * (right - left)


def add_powers(sums, at, f):
    """sums[at : at + 4] += 1, f, f^2, f^3, of a flat float32 array, as one number of four lanes."""
    sums[at : at + 4] += np.array([1.0, f, f * f, f * f * f], np.float32)


def _pointer(context, builder, kind, array, at, vector):
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


def _everywhere(builder, value, vector):
    nothing, place = ir.Constant(vector, ir.Undefined), ir.IntType(32)
    one = builder.insert_element(nothing, value, ir.Constant(place, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(place, 8), [0] * 8))


@intrinsic
def _load(typing, words, at):
    def build(context, builder, signature, arguments):
        read = builder.load(_pointer(context, builder, signature.args[0], *arguments, _WORDS))
        read.align = 8
        return read

    return LANES_TYPE(words, types.intp), build


@intrinsic
def _store(typing, values, at, eight):
    vector = _WORDS if eight is LANES_TYPE else _DOUBLES

    def build(context, builder, signature, arguments):
        array, place, value = arguments
        builder.store(value, _pointer(context, builder, signature.args[0], array, place, vector), align=8)
        return context.get_dummy_value()

    return types.void(values, types.intp, eight), build


@intrinsic
def _numbers(typing, values, at):
    single = values.dtype == types.float32

    def build(context, builder, signature, arguments):
        vector = ir.VectorType(ir.FloatType(), 8) if single else _DOUBLES
        read = builder.load(_pointer(context, builder, signature.args[0], *arguments, vector))
        read.align = 4 if single else 8
        return builder.fpext(read, _DOUBLES) if single else read

    return NUMBERS_TYPE(values, types.intp), build


@intrinsic
def _number(typing, eight, at):
    def build(context, builder, signature, arguments):
        return builder.extract_element(*arguments)

    return types.float64(eight, types.intp), build


@intrinsic
def _spread(typing, bit):
    def build(context, builder, signature, arguments):
        return _everywhere(builder, builder.neg(arguments[0]), _WORDS)

    return LANES_TYPE(types.int64), build


@intrinsic
def _some(typing, lanes):
    def build(context, builder, signature, arguments):
        whole = ir.IntType(LANES)
        return builder.icmp_unsigned("!=", builder.bitcast(arguments[0], whole), ir.Constant(whole, 0))

    return types.boolean(lanes), build


@intrinsic
def _alike(typing, value):
    def build(context, builder, signature, arguments):
        return _everywhere(builder, arguments[0], _DOUBLES)

    return NUMBERS_TYPE(types.float64), build


@intrinsic
def _any_below(typing, a, b):
    def build(context, builder, signature, arguments):
        bits = builder.bitcast(builder.fcmp_ordered("<", *arguments), ir.IntType(8))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(8), 0))

    return types.boolean(a, b), build


@intrinsic
def _labelled(typing, eight, low, label):
    def build(context, builder, signature, arguments):
        value, last, name = arguments
        kept = builder.and_(builder.bitcast(value, _WORDS), _everywhere(builder, builder.not_(last), _WORDS))
        return builder.bitcast(builder.or_(kept, _everywhere(builder, name, _WORDS)), _DOUBLES)

    return NUMBERS_TYPE(eight, types.int64, types.int64), build


@intrinsic
def _lowest(typing, word):
    def build(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), build


@intrinsic
def _ones(typing, word):
    def build(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), build


@intrinsic
def _bilinear(typing, image, at, below, across, down):
    def build(context, builder, signature, arguments):
        array, *lines, u, v = arguments
        pair = ir.VectorType(ir.FloatType(), 2)
        a, b = (builder.load(_pointer(context, builder, signature.args[0], array, line, pair)) for line in lines)
        a.align = b.align = 4
        first, second = (ir.Constant(ir.IntType(32), k) for k in (0, 1))
        both = builder.insert_element(builder.insert_element(ir.Constant(pair, ir.Undefined), v, first), v, second)
        seen = builder.fadd(a, builder.fmul(both, builder.fsub(b, a), flags=["contract"]), flags=["contract"])
        left, right = builder.extract_element(seen, first), builder.extract_element(seen, second)
        return builder.fadd(left, builder.fmul(u, builder.fsub(right, left), flags=["contract"]), flags=["contract"])

    return types.float32(image, types.intp, types.intp, types.float32, types.float32), build


@intrinsic
def _add_powers(typing, sums, at, f):
    def build(context, builder, signature, arguments):
        array, place, value = arguments
        four = ir.VectorType(ir.FloatType(), 4)
        powers = ir.Constant(four, [1.0, 0.0, 0.0, 0.0])
        power = value
        for k in (1, 2, 3):
            powers = builder.insert_element(powers, power, ir.Constant(ir.IntType(32), k))
            power = builder.fmul(power, value)
        where = _pointer(context, builder, signature.args[0], array, place, four)
        before = builder.load(where)
        before.align = 4
        builder.store(builder.fadd(before, powers), where, align=4)
        return context.get_dummy_value()

    return types.void(sums, types.intp, types.float32), build


# The last one that is read is named first so that NUMBA_BOUNDSCHECK sees it; without checks the compiler leaves it out.
@overload(load)
def _(words, at):
    def jitted(words, at):
        _ = words[at + 7]
        return _load(words, at)

    return jitted


@overload(store)
def _(values, at, eight):
    def jitted(values, at, eight):
        _ = values[at + 7]
        _store(values, at, eight)

    return jitted


@overload(numbers)
def _(values, at):
    def jitted(values, at):
        _ = values[at + 7]
        return _numbers(values, at)

    return jitted


@overload(bilinear)
def _(image, at, below, across, down):
    def jitted(image, at, below, across, down):
        _ = image[at + 1], image[below + 1]
        return _bilinear(image, at, below, across, down)

    return jitted


@overload(add_powers)
def _(sums, at, f):
    def jitted(sums, at, f):
        _ = sums[at + 3]
        _add_powers(sums, at, f)

    return jitted


@overload(total)
def _(eight):
    def jitted(eight):
        left = (_number(eight, 0) + _number(eight, 1)) + (_number(eight, 2) + _number(eight, 3))
        return left + ((_number(eight, 4) + _number(eight, 5)) + (_number(eight, 6) + _number(eight, 7)))

    return jitted


@overload(highest)
def _(eight):
    def jitted(eight):
        left = max(_number(eight, 0), _number(eight, 1), _number(eight, 2), _number(eight, 3))
        right = max(_number(eight, 4), _number(eight, 5), _number(eight, 6), _number(eight, 7))
        return left if left > right else right

    return jitted


@overload(spread)
def _(bit):
    return lambda bit: _spread(bit)


@overload(some)
def _(lanes):
    return lambda lanes: _some(lanes)


@overload(alike)
def _(value):
    return lambda value: _alike(value)


@overload(any_below)
def _(a, b):
    return lambda a, b: _any_below(a, b)


@overload(labelled)
def _(eight, low, label):
    return lambda eight, low, label: _labelled(eight, low, label)


@overload(lowest)
def _(word):
    return lambda word: _lowest(word)


@overload(ones)
def _(word):
    return lambda word: _ones(word)


def _binary(operation, instruction, kind):
    @intrinsic
    def combine(typing, a, b):
        def build(context, builder, signature, arguments):
            return getattr(builder, instruction)(*arguments)

        return kind(a, b), build

    @overload(operation)
    def _(a, b):
        return (lambda a, b: combine(a, b)) if a is kind and b is kind else None


_binary(operator.and_, "and_", LANES_TYPE)
_binary(operator.or_, "or_", LANES_TYPE)
_binary(operator.xor, "xor", LANES_TYPE)
_binary(operator.add, "fadd", NUMBERS_TYPE)
_binary(operator.sub, "fsub", NUMBERS_TYPE)
_binary(operator.mul, "fmul", NUMBERS_TYPE)


def _chosen(operation, sign):
    @intrinsic
    def choose(typing, a, b):
        def build(context, builder, signature, arguments):
            return builder.select(builder.fcmp_ordered(sign, *arguments), *arguments)

        return NUMBERS_TYPE(a, b), build

    @overload(operation)
    def _(a, b):
        return lambda a, b: choose(a, b)


_chosen(smaller, "<")
_chosen(larger, ">")


@intrinsic
def _inverted(typing, a):
    def build(context, builder, signature, arguments):
        return builder.not_(arguments[0])

    return LANES_TYPE(a), build


@overload(operator.invert)
def _(a):
    return (lambda a: _inverted(a)) if a is LANES_TYPE else None
