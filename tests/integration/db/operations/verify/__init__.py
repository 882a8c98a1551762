"""Tests of `crm verify`: each invariant is broken on purpose and must be reported."""
