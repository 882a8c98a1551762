"""Lua functions that several scripts share. A script begins with them."""

FIELD_AND_SMALLER = """
local function field(info, name)
  for i = 1, #info, 2 do if info[i] == name then return info[i + 1] end end
end
-- Both halves of an id go up to 2^64, and Lua's numbers are exact up to 2^53 only. The halves have
-- no leading zeros, so the longer one is greater, and halves of equal length compare as text.
local function less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end
local function smaller(a, b)
  local a1, a2 = string.match(a, '(%d+)-(%d+)')
  local b1, b2 = string.match(b, '(%d+)-(%d+)')
  if a1 ~= b1 then return less(a1, b1) end
  return less(a2, b2)
end
"""
"""``field(info, name)``: a value of an answer of XINFO. ``smaller(a, b)``: compares two ids."""
