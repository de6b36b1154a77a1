"""A token that is useless to a thief: it is bound to its agent's key, and each call needs a proof.

The agent has the key and the token. The gateway has neither: it forwards the agent's token and proof.

Prints:

    agent reads plan.md, with a proof: allowed
    the same proof again: denied, REPLAYED
    thief, without a proof: denied, PROOF_REQUIRED
    thief, with the agent's proof for another file: denied, BAD_PROOF
    agent makes a bearer token of it: refused
    sub-agent reads plan.md, with its own key: allowed
"""

from __future__ import annotations

from sessauth import HolderKey, NotExtendable, Prover, Token
from sessauth.client import Client

READ = "read:files/docs/**"


def prove(prover: Prover, token: Token, name: str) -> bytes:
    """Make the proof that an agent sends with a call."""
    return prover.prove(token, "read", f"files/docs/{name}", b"{}")


def ask(gateway: Client, who: str, token: Token, proof: bytes) -> None:
    """Judge one call as a gateway does, and print the decision."""
    decision = gateway.check(token, "read", "files/docs/plan.md", b"{}", audience="gateway", proof=proof)
    print(f"{who}: {'allowed' if decision else f'denied, {decision.reason.name}'}")


def main() -> None:
    """Bind a token to a key, use it, steal it, attenuate it for a sub-agent."""
    agent, sub_agent = HolderKey.generate(), HolderKey.generate()
    with Client() as client, client.session(subject="agent", ceiling=[READ]) as session:
        # The orchestrator needs the public half only.
        token = session.mint([READ], ["gateway"], to=agent.public.text)
        # It fetches the host's keys about twice an hour; an agent without a credential has them handed over
        # with its token (docs/bound-tokens.md).
        prover = Prover(agent, client.verifier_keys)

        proof = prove(prover, token, "plan.md")
        ask(client, "agent reads plan.md, with a proof", token, proof)
        ask(client, "the same proof again", token, proof)
        ask(client, "thief, without a proof", token, b"")
        other = prove(prover, token, "other.md")
        ask(client, "thief, with the agent's proof for another file", token, other)

        try:
            token.attenuate(key=agent)
        except NotExtendable:
            print("agent makes a bearer token of it: refused")
        smaller = token.attenuate(scopes=["read:files/docs/plan.md"], to=sub_agent.public, key=agent)
        proof = prove(Prover(sub_agent, client.verifier_keys), smaller, "plan.md")
        ask(client, "sub-agent reads plan.md, with its own key", smaller, proof)


if __name__ == "__main__":
    main()
