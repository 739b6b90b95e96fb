"""What SQLAlchemy's pysqlite offers, for the suite that is installed with SQLAlchemy.

That suite asks a requirements class what to try, and its default is careful. The class SQLAlchemy itself tests pysqlite
with is in its sources only; the lists here are where, on SQLite, it differs from the default. The campaign uses that
class itself (:mod:`tests.sqlalchemy.suites`).
"""

from sqlalchemy.testing import exclusions
from sqlalchemy.testing.requirements import SuiteRequirements

OFFERED = """
    autocommit boolean_col_expressions check_constraint_reflection computed_columns
    computed_columns_reflect_persisted computed_columns_stored computed_columns_virtual create_table_as
    create_temp_table_as ctes ctes_with_values date_historic datetime_historic datetime_literals dbapi_lastrowid
    emulated_lastrowid emulated_lastrowid_even_with_sequences except_ expression_server_defaults
    fetch_expression fetch_offset_with_options fk_constraint_option_reflection_ondelete_noaction
    fk_constraint_option_reflection_ondelete_restrict fk_constraint_option_reflection_onupdate_restrict
    float_or_double_precision_behaves_generically foreign_key_constraint_name_reflection
    foreign_key_constraint_option_reflection_ondelete foreign_key_constraint_option_reflection_onupdate
    has_temp_table index_ddl_if_exists indexes_check_column_order indexes_with_expressions infinity_floats
    inline_check_constraint_reflection intersect isolation_level json_array_indexes json_type
    legacy_unconditional_json_extract mod_operator_as_percent_sign non_updating_cascade nullsordering
    nvarchar_types order_by_collation order_by_label_with_expression percent_schema_names
    precision_numerics_enotation_small precision_numerics_retains_significant_digits reflect_table_options
    reflects_pk_names regexp_match repeated_column_foreign_keys repeated_remote_col_foreign_keys server_defaults
    skip_autocommit_rollback supports_bitwise_and supports_bitwise_not supports_bitwise_or
    supports_bitwise_shift supports_bitwise_xor table_ddl_if_exists temp_table_names temporary_views tuple_in
    tuple_in_w_empty unicode_ddl update_from view_column_reflection view_reflection views window_functions
    window_range window_range_numeric
""".split()  # noqa: SIM905  a list would be as many lines

NOT_OFFERED = """
    foreign_keys implicitly_named_constraints json_index_supplementary_unicode_element nested_aggregates
    numeric_received_as_decimal_untyped on_update_cascade on_update_or_deferrable_fks
    parens_in_union_contained_select_w_limit_offset parens_in_union_contained_select_wo_limit_offset
""".split()  # noqa: SIM905  a list would be as many lines


class Requirements(SuiteRequirements):
    """What pysqlite offers on a file, save writing into a second, attached one, which would be past that one's log."""

    def get_order_by_collation(self, config):
        return "NOCASE"

    def get_isolation_levels(self, config):
        levels = set(config.db.dialect._isolation_lookup)
        return {"default": "SERIALIZABLE", "supported": levels}


for _names, _rule in ((OFFERED, exclusions.open), (NOT_OFFERED, exclusions.closed), (["schemas"], exclusions.closed)):
    for _name in _names:
        setattr(Requirements, _name, property(lambda self, rule=_rule: rule()))
