"""Mistakes of a boundary at their places, and the presets: what they cover, and what they leave alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import make_project, ticket

from podctl.errors import SpecError
from podctl.runs.access import policies_for
from podctl.spec.boundary_rules import Rule
from podctl.spec.load import load_bundle, load_model
from podctl.spec.models import Boundary
from podctl.spec.presets import covering, presets, words
from podctl.spec.problems import SpecMistakes

HEAD = "apiVersion: podctl/v1\nkind: Boundary\nname: b\n"


def mistakes(tmp_path: Path, text: str) -> list[tuple[int, str]]:
    file = tmp_path / "boundary.yaml"
    file.write_text(HEAD + text)
    try:
        load_model(file, Boundary)
    except SpecMistakes as error:
        return [(problem.at.line, f"{problem.message} | {problem.hint}") for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("services:\n  api:\n    /orders: read\n", 6, "`GET /orders`"),
        ("services:\n  api:\n    FETCH /orders: read\n", 6, "expected a method of GET"),
        ("services:\n  api:\n    GET orders: read\n", 6, "starts with /"),
        ("services:\n  api:\n    GET /a/*/b: read\n", 6, "whole segments"),
        ("services:\n  api:\n    GET /a/x{id}: read\n", 6, "whole segments"),
        ("services:\n  api:\n    GET /a/../b: read\n", 6, "whole segments"),
        ("services:\n  api:\n    GET /a//b: read\n", 6, "expected whole segments"),
        ("services:\n  api:\n    GET /a: writable\n", 6, "expected `read`"),
        ("services:\n  api:\n    POST /a: read\n", 6, "can write"),
        ("services:\n  api:\n    '* /a': read\n", 6, "can write"),
        ("services:\n  api:\n    POST /a/b: ai-writable\n    POST /a/**: human-only\n", 6, "has no effect"),
        ("services:\n  api:\n    POST /a/{x}: recommend\n    '* /**': human-only\n", 6, "at line 7"),
        ("databases:\n  db:\n    t: human-only\n    public.t: {update: true}\n", 7, "db.t stands at line 6 already"),
        ("databases:\n  db:\n    t: {update: [a, b], recommend: {update: [b, c]}}\n", 6, "`UPDATE db.t` of b is recommended, and at line 6"),
        ("databases:\n  db:\n    t: {insert: true, recommend: {insert: [b], delete: true}}\n", 6, "of b is recommended"),
        ("databases:\n  db:\n    t: {update: [a], recommend: {update: true}}\n", 6, "of a is recommended"),
        ("databases:\n  db:\n    t: {delete: true, recommend: {delete: true}}\n", 6, "`DELETE db.t` is recommended"),
        ("tools:\n  github: {'a b': ai-writable}\n", 5, "a tool's name"),
        ("infrastructure:\n  Deployment: read\n", 5, "in the plural"),
        ("infrastructure:\n  leases: {reads: read}\n", 5, "expected verbs of"),
        ("infrastructure:\n  leases: {update: read}\n", 5, "can write"),
        ("databases:\n  db:\n    payments: {update: true}\n", 6, "financial records are never ai-writable"),
        ("databases:\n  db:\n    Payments.entries: {delete: true}\n", 6, "covers `Payments`"),
        ("databases:\n  db:\n    users: {update: [password_hash]}\n", 6, "covers `password_hash`"),
        ("infrastructure:\n  secrets: {update: ai-writable}\n", 5, "preset access-control"),
        ("services:\n  payments-api: ai-writable\n", 5, "of: \"* payments-api /**\""),
        ("exceptions: [{preset: money, of: x, reason: y}]\n", 4, "there is no preset money"),
        ("exceptions: [{preset: permissions, of: UPDATE db.roles, reason: y}]\n", 4, "no rule is called"),
        ("cedar: nowhere.cedar\n", 4, "no such file"),
    ],
)  # fmt: skip
def test_mistakes_are_shown_where_they_stand(tmp_path: Path, text: str, line: int, said: str) -> None:
    found = mistakes(tmp_path, text)
    assert [at for at, _ in found] == [line] and said in found[0][1], found


def test_what_is_apart_may_stand_beside_one_another(tmp_path: Path) -> None:
    apart = "{read: true, update: [a], insert: true, recommend: {update: [b], delete: true}}"
    assert mistakes(tmp_path, f"databases:\n  db:\n    t: {apart}\n    other.t: {apart}\n") == []


def test_an_exception_lets_a_rule_stand_until_its_day(tmp_path: Path) -> None:
    rule = "databases:\n  db:\n    payments: {update: [note]}\n"
    exception = "exceptions: [{preset: financial-records, of: db.payments, reason: notes alone%s}]\n"
    assert mistakes(tmp_path, rule + exception % "") == []
    assert mistakes(tmp_path, rule + exception % ", expires: 2999-01-31") == []
    for day, said in (("2020-01-31", "ended on 2020-01-31"), ("2020-02-31", "there is no day")):
        found = mistakes(tmp_path, rule + exception % f", expires: {day}")
        assert len(found) == 2 and said in found[1][1], found
    other = exception.replace("financial-records", "health-data") % ""
    assert [at for at, _ in mistakes(tmp_path, rule + other)] == [6]


def test_mistakes_of_a_cedar_file_stand_in_it(tmp_path: Path) -> None:
    policies = (
        '// who may not\nforbid (principal, action == Action::"call", resource)\nwhen { context.method == "DELETE; //" };\n\n'
        "permit (principal, action, resource);\n"
        'forbid (principal, action == Action::"call", resource) when { context.methd == "PUT" };\n'
        'forbid (principal, action == Action::"cal", resource);\n'
        '@id("GET api /x") forbid (principal, action, resource);\n'
        "forbid (principal,\n"
    )
    (tmp_path / "more.cedar").write_text(policies)
    found = mistakes(tmp_path, "services: {api: {GET /x: read}}\ncedar: more.cedar\n")
    for line, said in {5: "expected forbid", 6: "methd", 7: 'Action::"cal"', 8: "another rule's", 9: "no Cedar"}.items():
        assert any(at == line and said in message for at, message in found), (line, found)
    assert {at for at, _ in found} == {5, 6, 7, 8, 9}


def rule(table: str, *columns: str) -> Rule:
    return Rule(f"UPDATE db.{table}", "table", "ai-writable", "db", table, (), ("update",), columns or None)


#: Tables of help desks, shops and trackers that an agent ordinarily works in.
ORDINARY = [
    "tickets",
    "ticket_articles",
    "ticket_notes",
    "conversations",
    "messages",
    "articles",
    "labels",
    "taggings",
    "inboxes",
    "contacts",
    "customers",
    "accounts",
    "addresses",
    "orders",
    "order_items",
    "line_items",
    "shipments",
    "fulfillments",
    "returns",
    "carts",
    "products",
    "variants",
    "categories",
    "inventory_levels",
    "stock_moves",
    "warehouses",
    "issues",
    "merge_requests",
    "notes",
    "milestones",
    "boards",
    "comments",
    "reactions",
    "attachments",
    "uploads",
    "events",
    "notifications",
    "templates",
    "macros",
    "canned_responses",
    "surveys",
    "csat_responses",
    "sla_policies",
    "business_hours",
    "holidays",
    "teams",
    "organizations",
    "tags",
    "queues",
    "priorities",
    "states",
    "groups",
    "subscriptions",
    "newsletters",
    "campaigns",
    "coupons",
    "price_lists",
    "currencies",
    "countries",
    "languages",
    "translations",
    "settings_ui",
    "appointments",
    "bookings",
    "rooms",
    "guests",
    "reviews",
    "ratings",
    "wishlists",
    "suppliers",
    "purchase_orders",
    "quotes",
    "leads",
    "opportunities",
    "activities",
    "calls",
    "emails",
    "email_templates",
    "faq_entries",
    "knowledge_base_articles",
    "search_index",
    "ir_sequence",
    "res_partner",
    "mail_message",
    "wp_posts",
    "wp_comments",
    "deliveries",
    "tracking_numbers",
    "parcels",
    "routes",
    "vehicles",
    "drivers",
    "shifts",
    "employees",
    "departments",
    "tasks",
    "projects",
    "sprints",
    "worklogs",
    "author",
    "authors",
    "loaned_status",
    "policies_read",
    "rollouts_seen",
    "healthchecks",
    "clusters_of_words",
]
SENSITIVE = {
    "financial-records": "payments payment_methods PaymentMethod refunds invoices invoice_lines general_ledger ledger_entries "
    "journal_entries bank_accounts payouts billing_plans salaries gift_cards creditmemos",
    "health-data": "patients patient_notes diagnoses medications prescriptions allergies lab_results MedicalRecord",
    "access-control": "access_grants access_tokens api_keys oauth_applications user_passwords credentials ssh_keys login_attempts mfa_devices",
    "permissions": "permissions role_permissions roles user_roles privileges entitlements",
    "security-policy": "security_policies firewall_rules audit_log audit_events ip_allowlist",
    "infrastructure": "deployments feature_flags schema_migrations environment_variables",
}


def test_presets_leave_ordinary_tables_alone() -> None:
    flagged = {table: [one.preset.name for one in found] for table in ORDINARY if (found := covering(rule(table)))}
    assert set(flagged) <= {"clusters_of_words"}, flagged


@pytest.mark.parametrize("preset", SENSITIVE)
def test_presets_cover_what_they_are_for(preset: str) -> None:
    missed = [name for name in SENSITIVE[preset].split() if preset not in {one.preset.name for one in covering(rule(name))}]
    assert not missed
    assert not covering(Rule("READ db.payments", "table", "read", "db", "payments", (), ("read",)))


def test_words() -> None:
    assert words("AccessGrants") == words("access_grants") == words("ACCESS-GRANT") == ("access", "grant")
    assert words("diagnosis") == ("diagnosis",) and words("addresses")[0].startswith("address")
    assert {preset.name for preset in presets()} == set(SENSITIVE)


def test_a_cedar_file_outside_of_what_a_run_may_read_is_not_opened(tmp_path: Path) -> None:
    """Its mistakes would be shown with the lines they stand in."""
    project = make_project(tmp_path / "p", agent="", tickets=[ticket("1")])
    (tmp_path / "secret").write_text("the secret of the machine;")
    (project.root / "link.cedar").symlink_to(tmp_path / "secret")
    written = (project.root / "boundary.yaml").read_text()
    for named in ("../secret", str(tmp_path / "secret"), "link.cedar", "/dev/zero"):
        (project.root / "boundary.yaml").write_text(f"{written}cedar: {named}\n")
        with pytest.raises(SpecError) as refused:
            load_bundle(project.root / "scenario.yaml", within=project.root)
        assert refused.value.code == "spec-outside" and "secret of" not in refused.value.render()
    (project.root / "boundary.yaml").write_text(f"{written}cedar: /dev/zero\n")
    with pytest.raises(SpecMistakes, match="not a file"):
        load_bundle(project.root / "scenario.yaml")


def test_a_run_decides_by_the_cedar_file_as_it_was_loaded(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent="", tickets=[ticket("1")])
    file = project.root / "more.cedar"
    file.write_text('forbid (principal, action == Action::"call", resource) when { context.method == "DELETE" };')
    with (project.root / "boundary.yaml").open("a") as boundary:
        boundary.write("cedar: more.cedar\n")
    bundle = load_bundle(project.root / "scenario.yaml")
    file.write_text("")
    (own,) = [policy for policy in policies_for(bundle) if not policy.on]
    assert own.id == "more.cedar:1" and "DELETE" in own.text
