"""Hosts that are somebody else's: clouds' managed services and third parties' APIs. PURE."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

#: ``stub``: it speaks HTTP, and recorded answers can stand for it; ``left-out``: nothing of podctl's speaks its protocol;
#: ``postgres``: a PostgreSQL server that podctl's own can stand for.
How = Literal["stub", "left-out", "postgres"]


@dataclass(frozen=True)
class Outside:
    name: str
    title: str
    how: How


_KNOWN: tuple[tuple[str, str, str, How], ...] = (
    (r"postgres\.database\.azure\.com", "azure-postgres", "Azure Database for PostgreSQL", "postgres"),
    (r"neon\.tech", "neon", "Neon", "postgres"),
    (r"(db\.)?\w+\.supabase\.co|pooler\.supabase\.com", "supabase-db", "Supabase", "postgres"),
    (r"rds\.amazonaws\.com(\.cn)?", "aws-rds", "Amazon RDS", "left-out"),
    (r"cache\.amazonaws\.com(\.cn)?", "aws-elasticache", "Amazon ElastiCache", "left-out"),
    (r"kafka(-serverless)?\.[\w-]+\.amazonaws\.com", "aws-msk", "Amazon MSK", "left-out"),
    (r"docdb\.amazonaws\.com", "aws-documentdb", "Amazon DocumentDB", "left-out"),
    (r"mq\.[\w-]+\.amazonaws\.com", "aws-mq", "Amazon MQ", "left-out"),
    (r"email-smtp\.[\w-]+\.amazonaws\.com", "aws-ses-smtp", "Amazon SES (SMTP)", "left-out"),
    (r"(?P<part>s3|sqs|sns|dynamodb|secretsmanager|kms|sts|lambda|kinesis|email|events|logs|monitoring|bedrock-runtime|execute-api)"
     r"([.-][\w-]+)?\.amazonaws\.com(\.cn)?", "aws", "Amazon Web Services", "stub"),
    (r"amazonaws\.com(\.cn)?", "aws", "Amazon Web Services", "stub"),
    (r"mysql\.database\.azure\.com", "azure-mysql", "Azure Database for MySQL", "left-out"),
    (r"database\.windows\.net", "azure-sql", "Azure SQL", "left-out"),
    (r"redis\.cache\.windows\.net", "azure-redis", "Azure Cache for Redis", "left-out"),
    (r"servicebus\.windows\.net", "azure-servicebus", "Azure Service Bus", "left-out"),
    (r"(?P<part>blob|queue|table|file)\.core\.windows\.net", "azure", "Azure Storage", "stub"),
    (r"documents\.azure\.com|vault\.azure\.net|openai\.azure\.com|azurewebsites\.net|cognitiveservices\.azure\.com|search\.windows\.net|"
     r"azconfig\.io|applicationinsights\.azure\.com|login\.microsoftonline\.com|graph\.microsoft\.com", "azure", "Microsoft Azure", "stub"),
    (r"(?P<part>[\w-]+)\.googleapis\.com", "gcp", "Google Cloud", "stub"),
    (r"metadata\.google\.internal", "gcp-metadata", "Google Cloud's metadata", "stub"),
    (r"run\.app|cloudfunctions\.net|appspot\.com", "gcp", "Google Cloud", "stub"),
    (r"mongodb\.net", "mongodb-atlas", "MongoDB Atlas", "left-out"),
    (r"upstash\.io", "upstash", "Upstash", "left-out"),
    (r"confluent\.cloud", "confluent-cloud", "Confluent Cloud", "left-out"),
    (r"psdb\.cloud", "planetscale", "PlanetScale", "left-out"),
    (r"cockroachlabs\.cloud", "cockroach-cloud", "CockroachDB Cloud", "left-out"),
    (r"snowflakecomputing\.com", "snowflake", "Snowflake", "stub"),
    (r"smtp\.[\w.-]+", "smtp", "a mail server", "left-out"),
    *(
        (pattern, name, title, "stub")
        for pattern, name, title in (
            (r"stripe\.com", "stripe", "Stripe"),
            (r"twilio\.com", "twilio", "Twilio"),
            (r"sendgrid\.(com|net)", "sendgrid", "SendGrid"),
            (r"mailgun\.(net|org)", "mailgun", "Mailgun"),
            (r"mailchimp\.com|mandrillapp\.com", "mailchimp", "Mailchimp"),
            (r"paypal\.com", "paypal", "PayPal"),
            (r"braintree(gateway|-api)\.com", "braintree", "Braintree"),
            (r"adyen\.com", "adyen", "Adyen"),
            (r"plaid\.com", "plaid", "Plaid"),
            (r"(slack\.com)", "slack", "Slack"),
            (r"github(usercontent)?\.com", "github", "GitHub"),
            (r"gitlab\.com", "gitlab", "GitLab"),
            (r"auth0\.com", "auth0", "Auth0"),
            (r"okta\.com", "okta", "Okta"),
            (r"openai\.com", "openai", "OpenAI"),
            (r"anthropic\.com", "anthropic", "Anthropic"),
            (r"sentry\.io", "sentry", "Sentry"),
            (r"datadoghq\.(com|eu)", "datadog", "Datadog"),
            (r"newrelic\.com|nr-data\.net", "newrelic", "New Relic"),
            (r"honeycomb\.io", "honeycomb", "Honeycomb"),
            (r"grafana\.net", "grafana-cloud", "Grafana Cloud"),
            (r"segment\.(io|com)", "segment", "Segment"),
            (r"algolia(net)?\.(com|net)", "algolia", "Algolia"),
            (r"zendesk\.com", "zendesk", "Zendesk"),
            (r"salesforce\.com|force\.com", "salesforce", "Salesforce"),
            (r"hubspot\.com|hubapi\.com", "hubspot", "HubSpot"),
            (r"(my)?shopify\.com", "shopify", "Shopify"),
            (r"intercom\.io", "intercom", "Intercom"),
            (r"launchdarkly\.com", "launchdarkly", "LaunchDarkly"),
            (r"pagerduty\.com", "pagerduty", "PagerDuty"),
            (r"atlassian\.(net|com)", "atlassian", "Atlassian"),
            (r"service-now\.com", "servicenow", "ServiceNow"),
            (r"cloudflare\.com", "cloudflare", "Cloudflare"),
            (r"facebook\.com", "facebook", "Facebook"),
            (r"twitter\.com|api\.x\.com", "twitter", "Twitter"),
        )
    ),
)  # fmt: skip
#: Protocols that podctl's PostgreSQL or a stub can stand for; a bare host counts as HTTP.
_HTTP, _POSTGRES = ("http", "https", ""), ("postgres", "postgresql")
_HOST = re.compile(r"(?=.{4,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z][a-z0-9-]{1,62}", re.I)
#: Ends of names that lead nowhere outside: reserved ones, a cluster's own, and files that look like hosts.
_NOT_OUTSIDE = re.compile(
    r"(?i)(^|\.)(local|localhost|localdomain|internal|invalid|test|svc|lan|home|docker|corp|json|ya?ml|xml|sql|sh|py|js|ts|jar|war|go|rb|conf|cfg|ini|"
    r"log|txt|html?|properties|pem|crt|key|sock|db|service|php|css|md|toml|so|dll|class|env)$"
)
#: Names in values that are no address: namespaces of documents and the like.
_NAMES_ONLY = re.compile(
    r"(?i)(^|\.)(w3\.org|xmlsoap\.org|schemas\.microsoft\.com|json-schema\.org|schema\.org|springframework\.org|apache\.org)$"
)


def is_host(text: str) -> bool:
    """A name of the internet: at least two parts, the last of letters."""
    return _HOST.fullmatch(text) is not None and not _NAMES_ONLY.search(text) and (
        not _NOT_OUTSIDE.search(text) or text.lower() == "metadata.google.internal"
    )  # fmt: skip


def is_loopback(host: str) -> bool:
    if host.lower() in ("localhost", "0.0.0.0", "::", "*", "host.docker.internal", "ip6-localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def recognised(host: str) -> bool:
    """Whether it is known whose it is, without a scheme that tells."""
    return any(re.search(rf"(?:^|\.)(?:{pattern})$", host.lower()) for pattern, *_ in _KNOWN)


def judge(host: str, scheme: str = "") -> Outside:
    """What stands for a host of somebody else's; ``scheme`` is a URL's."""
    lowered, protocol = host.lower(), scheme.lower().rpartition(":")[2].partition("+")[0]
    for pattern, name, title, how in _KNOWN:
        found = re.search(rf"(?:^|\.)(?:{pattern})$", lowered)
        if found is not None:
            part = found.groupdict().get("part")
            label = f"{name}-{part}" if part else name
            return Outside(label, title, _by_scheme(protocol, how))
    return Outside(re.sub(r"[^a-z0-9]+", "-", lowered).strip("-"), f"the third party {host}", _by_scheme(protocol, "stub"))


def _by_scheme(protocol: str, how: How) -> How:
    if protocol in _POSTGRES:
        return "postgres"
    if protocol and protocol not in _HTTP:
        return "left-out"
    return how
