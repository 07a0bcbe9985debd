/** Vite takes these along; they have no types. */
declare module "*.css";
