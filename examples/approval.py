"""A deployment that a person approves: denied, read and signed, allowed once.

Prints:

    APPROVAL_REQUIRED
    action     "deploy"
    resource   "prod/web"
    arguments
      {
        "version": "1.2"
      }
    ALLOWED
    APPROVAL_REQUIRED
"""

from __future__ import annotations

from sessauth.approvals.approver import Approver, ApproverKey
from sessauth.client import Client

# A person's key comes from a file: ApproverKey.load(path). A scope names its public half.
KEY = ApproverKey.generate()
ARGUMENTS = b'{"version": "1.2"}'


def main() -> None:
    """Open a session, ask for a deployment, have it approved, ask again."""
    with (
        Client() as client,
        client.session(subject="ci:deploy", purpose="release 1.2", ceiling=["deploy:prod/**"]) as session,
    ):
        token = session.mint([f'deploy:prod/** needs approval(1, "{KEY.text}")'], audience=["cluster"])

        def deploy() -> None:
            print(client.check(token, "deploy", "prod/web", ARGUMENTS, audience="cluster").reason.name)

        deploy()

        # The approver's part, on a machine of its own: read, decide, sign.
        for waiting in client.list_approvals(public_key=KEY.public_key).approvals:
            print("\n".join(waiting.render().splitlines()[:6]))
            client.grant_approval(waiting, Approver(KEY))

        deploy()
        deploy()


if __name__ == "__main__":
    main()
